// For each account id on stdin one line: the id, its murmur2, and its partition among each of the given numbers of
// partitions, all as Kafka's own client computes them.
//
//   java -cp "$KAFKA_JARS/*" examples/java/Partitions.java 8 12 64 < ids.txt

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import org.apache.kafka.clients.producer.internals.BuiltInPartitioner;
import org.apache.kafka.common.utils.Utils;

public class Partitions {
    public static void main(String[] args) throws Exception {
        var ids = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String id = ids.readLine(); id != null; id = ids.readLine()) {
            byte[] key = id.getBytes(StandardCharsets.UTF_8);
            List<String> found = new ArrayList<>(List.of(id, Integer.toString(Utils.murmur2(key))));
            for (String partitions : args) {
                // What the producer itself calls: toPositive(murmur2(key)) % partitions, toPositive clears the sign bit.
                found.add(Integer.toString(BuiltInPartitioner.partitionForKey(key, Integer.parseInt(partitions))));
            }
            System.out.println(String.join(" ", found));
        }
    }
}
