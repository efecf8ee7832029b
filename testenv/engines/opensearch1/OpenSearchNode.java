import java.nio.file.Path;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import org.opensearch.analysis.common.CommonAnalysisPlugin;
import org.opensearch.common.logging.LogConfigurator;
import org.opensearch.common.settings.Settings;
import org.opensearch.env.Environment;
import org.opensearch.index.mapper.MapperExtrasPlugin;
import org.opensearch.index.reindex.ReindexPlugin;
import org.opensearch.join.ParentJoinPlugin;
import org.opensearch.node.InternalSettingsPreparer;
import org.opensearch.node.Node;
import org.opensearch.painless.PainlessPlugin;
import org.opensearch.plugins.Plugin;
import org.opensearch.transport.Netty4Plugin;

/** Runs one OpenSearch 1 node: OpenSearchNode HOME, where HOME holds config/opensearch.yml. */
public class OpenSearchNode extends Node {
  private OpenSearchNode(Environment env, Collection<Class<? extends Plugin>> plugins) {
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
    LogConfigurator.setNodeName(Node.NODE_NAME_SETTING.get(env.settings()));
    LogConfigurator.configure(env);
    Node node =
        new OpenSearchNode(
            env,
            List.of(
                Netty4Plugin.class,
                CommonAnalysisPlugin.class,
                PainlessPlugin.class,
                ReindexPlugin.class,
                ParentJoinPlugin.class,
                MapperExtrasPlugin.class));
    Runtime.getRuntime()
        .addShutdownHook(
            new Thread(
                () -> {
                  try {
                    node.close();
                  } catch (Throwable t) {
                    t.printStackTrace();
                  }
                }));
    node.start();
    Thread.currentThread().join();
  }
}
