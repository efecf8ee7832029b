import java.nio.file.Path;
import java.util.Map;
import org.elasticsearch.common.logging.LogConfigurator;
import org.elasticsearch.common.settings.Settings;
import org.elasticsearch.env.Environment;
import org.elasticsearch.node.InternalSettingsPreparer;
import org.elasticsearch.node.Node;
import org.elasticsearch.plugins.PluginsLoader;

/**
 * Runs one Elasticsearch 9 node: ElasticsearchNode HOME, where HOME holds config/elasticsearch.yml
 * and the folders modules, plugins, data and logs.
 */
public class ElasticsearchNode {
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
    LogConfigurator.configureESLogging();
    Settings settings = Settings.builder().put("path.home", home.toString()).build();
    Environment env =
        InternalSettingsPreparer.prepareEnvironment(
            settings, Map.of(), home.resolve("config"), () -> "node-1");
    LogConfigurator.setNodeName(Node.NODE_NAME_SETTING.get(env.settings()));
    LogConfigurator.configure(env, true);
    Node node =
        new Node(
            env,
            PluginsLoader.createPluginsLoader(
                PluginsLoader.loadModulesBundles(env.modulesDir(), false),
                PluginsLoader.loadPluginsBundles(env.pluginsDir(), false),
                Map.of()));
    Runtime.getRuntime()
        .addShutdownHook(
            new Thread(
                () -> {
                  try {
                    node.prepareForClose();
                    node.close();
                  } catch (Throwable t) {
                    t.printStackTrace();
                  }
                }));
    node.start();
    Thread.currentThread().join();
  }
}
