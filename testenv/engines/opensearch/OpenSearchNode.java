import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import org.opensearch.Version;
import org.opensearch.common.logging.LogConfigurator;
import org.opensearch.common.settings.Settings;
import org.opensearch.env.Environment;
import org.opensearch.node.InternalSettingsPreparer;
import org.opensearch.node.Node;
import org.opensearch.plugins.PluginInfo;

/**
 * Runs one OpenSearch node: OpenSearchNode HOME, where HOME holds config/opensearch.yml.
 * It stands in for the official launcher, which needs an agent that is not published.
 */
public class OpenSearchNode extends Node {
  private static final String[] MODULES = {
    "org.opensearch.transport.Netty4ModulePlugin",
    "org.opensearch.analysis.common.CommonAnalysisModulePlugin",
    "org.opensearch.ingest.common.IngestCommonModulePlugin",
    "org.opensearch.painless.PainlessModulePlugin",
    "org.opensearch.index.mapper.MapperExtrasModulePlugin",
    "org.opensearch.index.reindex.ReindexModulePlugin",
    "org.opensearch.geo.GeoModulePlugin",
    "org.opensearch.join.ParentJoinModulePlugin",
  };

  private OpenSearchNode(Environment env, Collection<PluginInfo> plugins) {
    super(env, plugins, false);
  }

  public static void main(String[] args) {
    try {
      run(Path.of(args[0]));
    } catch (Throwable t) {
      // Threads of a half-started node would keep the process alive.
      t.printStackTrace();
      Runtime.getRuntime().halt(1);
    }
  }

  private static void run(Path home) throws Exception {
    Settings settings = Settings.builder().put("path.home", home.toString()).build();
    Environment env =
        InternalSettingsPreparer.prepareEnvironment(
            settings, Map.of(), home.resolve("config"), () -> "node-1");
    LogConfigurator.configure(env);
    List<PluginInfo> plugins = new ArrayList<>();
    for (String c : MODULES) {
      plugins.add(
          new PluginInfo(
              c, "", Version.CURRENT.toString(), Version.CURRENT, "21", c, null, List.of(), false));
    }
    Node node = new OpenSearchNode(env, plugins);
    closeOnExit(node);
    node.start();
    Thread.currentThread().join();
  }

  private static void closeOnExit(Node node) {
    Runtime.getRuntime()
        .addShutdownHook(
            new Thread(
                () -> {
                  try {
                    node.close();
                  } catch (Exception e) {
                    e.printStackTrace();
                  }
                }));
  }
}
