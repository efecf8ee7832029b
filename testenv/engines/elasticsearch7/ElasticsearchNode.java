import java.nio.file.Path;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import org.elasticsearch.common.logging.LogConfigurator;
import org.elasticsearch.common.settings.Settings;
import org.elasticsearch.env.Environment;
import org.elasticsearch.index.mapper.MapperExtrasPlugin;
import org.elasticsearch.index.rankeval.RankEvalPlugin;
import org.elasticsearch.join.ParentJoinPlugin;
import org.elasticsearch.node.InternalSettingsPreparer;
import org.elasticsearch.node.Node;
import org.elasticsearch.percolator.PercolatorPlugin;
import org.elasticsearch.plugins.Plugin;
import org.elasticsearch.reindex.ReindexPlugin;
import org.elasticsearch.script.mustache.MustachePlugin;
import org.elasticsearch.search.aggregations.matrix.MatrixAggregationPlugin;
import org.elasticsearch.transport.Netty4Plugin;

/**
 * Runs one Elasticsearch 7 node: ElasticsearchNode HOME, where HOME holds config/elasticsearch.yml
 * and the folders modules, plugins, data and logs.
 */
public class ElasticsearchNode extends Node {
  private ElasticsearchNode(Environment env, Collection<Class<? extends Plugin>> plugins) {
    super(env, plugins, true);
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
        new ElasticsearchNode(
            env,
            List.of(
                Netty4Plugin.class,
                ReindexPlugin.class,
                MapperExtrasPlugin.class,
                ParentJoinPlugin.class,
                MustachePlugin.class,
                PercolatorPlugin.class,
                RankEvalPlugin.class,
                MatrixAggregationPlugin.class));
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
