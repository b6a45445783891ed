// Bootstraps a catalogue from the compacted decisions, follows what changes, and prints a line of JSON per change.
//
//     java -cp "kafka-clients.jar:jackson-databind.jar:..." docs/examples/CatalogueConsumer.java [--once]
//
// Runs on Java 17 or newer. With --once it ends where the topic ends now. A decision that came once more, after a
// worker was killed, is told by its decision-id and is no change; a null value is a track that was withdrawn.

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.StringDeserializer;

public class CatalogueConsumer {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final PrintStream OUT = new PrintStream(System.out, true, StandardCharsets.UTF_8);

    private final Map<String, String> lastIds = new HashMap<>(); // of each track the id of its last decision

    public static void main(String[] arguments) throws Exception {
        new CatalogueConsumer().run(Arrays.asList(arguments).contains("--once"));
    }

    private void run(boolean once) throws Exception {
        Map<String, Object> config = Map.of("bootstrap.servers", setting("TAGSTREAM_KAFKA_BOOTSTRAP", "localhost:9092"));
        String topic = setting("TAGSTREAM_TOPIC_TAGS", "tracks.tags");
        try (var consumer = new KafkaConsumer<>(config, new StringDeserializer(), new ByteArrayDeserializer())) {
            List<TopicPartition> places = consumer.partitionsFor(topic).stream()
                    .map(found -> new TopicPartition(topic, found.partition())).toList();
            consumer.assign(places); // of no group: every copy of this program reads all of it
            consumer.seekToBeginning(places);
            Map<TopicPartition, Long> ends = consumer.endOffsets(places);
            while (!once || ends.entrySet().stream().anyMatch(end -> consumer.position(end.getKey()) < end.getValue())) {
                for (var record : consumer.poll(Duration.ofMillis(500))) {
                    apply(record);
                }
            }
        }
    }

    private void apply(ConsumerRecord<String, byte[]> record) throws Exception {
        ObjectNode change = JSON.createObjectNode().put("track", record.key());
        if (record.value() == null) {
            if (lastIds.remove(record.key()) != null) {
                OUT.println(JSON.writeValueAsString(change.putNull("tags")));
            }
            return;
        }
        String id = new String(record.headers().lastHeader("decision-id").value(), StandardCharsets.UTF_8);
        if (!id.equals(lastIds.put(record.key(), id))) {
            OUT.println(JSON.writeValueAsString(change.set("tags", JSON.readTree(record.value()).get("tags"))));
        }
    }

    private static String setting(String name, String otherwise) {
        return System.getenv().getOrDefault(name, otherwise);
    }
}
