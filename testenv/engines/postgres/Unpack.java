import java.io.InputStream;
import java.io.OutputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.zip.ZipEntry;
import java.util.zip.ZipInputStream;
import org.tukaani.xz.XZInputStream;

/** Unpack JAR TAR: writes the one .txz entry of JAR, decompressed, to TAR. */
public class Unpack {
  public static void main(String[] args) throws Exception {
    try (ZipInputStream jar = new ZipInputStream(Files.newInputStream(Path.of(args[0])))) {
      for (ZipEntry e = jar.getNextEntry(); e != null; e = jar.getNextEntry()) {
        if (!e.getName().endsWith(".txz")) {
          continue;
        }
        try (InputStream in = new XZInputStream(jar);
            OutputStream out = Files.newOutputStream(Path.of(args[1]))) {
          in.transferTo(out);
        }
        return;
      }
    }
    throw new IllegalArgumentException(args[0] + " holds no .txz entry");
  }
}
