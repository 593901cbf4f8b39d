// Open an account, put money in, take some out: with Kafka's own Java client (and Jackson), nothing of Ledgerline.
//
//   java -cp "$KAFKA_JARS/*" examples/java/SendRequest.java localhost:9092 [PREFIX [REPLY_TOPIC]]
//
// Needs a JDK 17 or newer. KAFKA_JARS is any folder with kafka-clients and jackson-databind and what they need; the
// local stack has one: ~/.cache/ledgerline/kafka. With REPLY_TOPIC the answers are read there instead of in `outcomes`.
//
// What it leaves out: new clients after fatal errors, many requests at once.

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.time.Instant;
import java.time.temporal.ChronoUnit;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.ExecutionException;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.Headers;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

public class SendRequest {
    static final Duration RESEND_AFTER = Duration.ofSeconds(5);
    static final Duration GIVE_UP_AFTER = Duration.ofSeconds(60);
    static final ObjectMapper JSON = new ObjectMapper();

    final String requests;
    final String replyTopic; // null: answers are read from outcomes
    final KafkaProducer<byte[], byte[]> producer;
    final KafkaConsumer<byte[], byte[]> answers;

    public static void main(String[] args) throws Exception {
        String prefix = args.length > 1 ? args[1] : "ledgerline.";
        String replyTopic = args.length > 2 ? args[2] : null;
        if (replyTopic != null) {
            createTopic(args[0], replyTopic);
        }
        // acks=all, enable.idempotence=true and murmur2 of the key are this client's defaults since Kafka 3.0; set
        // neither partitioner.class nor a partition: that is where the account's worker reads.
        Map<String, Object> producing = Map.of("bootstrap.servers", args[0], "acks", "all", "enable.idempotence", true);
        Map<String, Object> consuming = Map.of("bootstrap.servers", args[0], "enable.auto.commit", false);
        try (var producer = new KafkaProducer<>(producing, new ByteArraySerializer(), new ByteArraySerializer());
                var answers = new KafkaConsumer<>(consuming, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            new SendRequest(prefix, replyTopic, producer, answers).run();
        }
    }

    SendRequest(
            String prefix,
            String replyTopic,
            KafkaProducer<byte[], byte[]> producer,
            KafkaConsumer<byte[], byte[]> answers) {
        this.requests = prefix + "requests";
        this.replyTopic = replyTopic;
        this.producer = producer;
        this.answers = answers;
        // Stand at the end before anything is sent: then no answer can be missed. seekToEnd alone is lazy, position is not.
        List<TopicPartition> places = answers.partitionsFor(replyTopic == null ? prefix + "outcomes" : replyTopic).stream()
                .map(info -> new TopicPartition(info.topic(), info.partition()))
                .toList();
        answers.assign(places);
        answers.seekToEnd(places);
        places.forEach(answers::position);
    }

    void run() throws Exception {
        String account = "demo-" + UUID.randomUUID().toString().substring(0, 8);
        for (String fields : List.of(
                "{\"type\": \"open_account\", \"currency\": \"EUR\"}",
                "{\"type\": \"deposit\", \"amount_minor\": 10000, \"currency\": \"EUR\", \"rail\": \"sepa\"}",
                "{\"type\": \"withdraw\", \"amount_minor\": 1250, \"currency\": \"EUR\", \"rail\": \"sepa\"}")) {
            ObjectNode request = (ObjectNode) JSON.readTree(fields);
            request.put("v", 1);
            request.put("request_id", UUID.randomUUID().toString());
            request.put("account_id", account);
            // Milliseconds at most: Instant prints up to nine decimals, which the ledger refuses.
            request.put("requested_at", Instant.now().truncatedTo(ChronoUnit.MILLIS).toString());
            JsonNode outcome = ask(account, JSON.writeValueAsBytes(request));
            System.out.printf("%s %s %s %d cents%n",
                    outcome.get("transaction").asText(), outcome.get("type").asText(),
                    outcome.get("status").asText(), outcome.get("balance_minor").asLong());
        }
    }

    /** Send a request until its outcome comes; every copy has the same bytes, so it has its effect once. */
    JsonNode ask(String account, byte[] value) throws Exception {
        byte[] correlation = bytes(UUID.randomUUID().toString());
        Instant deadline = Instant.now().plus(GIVE_UP_AFTER);
        while (Instant.now().isBefore(deadline)) {
            var record = new ProducerRecord<>(requests, bytes(account), value); // the key is the account
            record.headers().add("correlation-id", correlation);
            if (replyTopic != null) {
                record.headers().add("reply-to", bytes(replyTopic));
            }
            int partition = producer.send(record).get().partition();
            JsonNode outcome = answer(correlation, partition);
            if (outcome != null) {
                return outcome;
            }
        }
        throw new IllegalStateException("no outcome; it may have been decided: send the same bytes again later");
    }

    /** The outcome with our correlation id, from the partition that the request went to: no other can be its answer. */
    JsonNode answer(byte[] correlation, int partition) throws Exception {
        Instant until = Instant.now().plus(RESEND_AFTER);
        while (Instant.now().isBefore(until)) {
            for (ConsumerRecord<byte[], byte[]> record : answers.poll(Duration.ofMillis(200))) {
                if (isOurs(record.headers(), correlation)) {
                    JsonNode outcome = JSON.readTree(record.value());
                    if (outcome.get("partition").asInt() == partition) {
                        return outcome;
                    }
                }
            }
        }
        return null;
    }

    static boolean isOurs(Headers headers, byte[] correlation) {
        Header found = headers.lastHeader("correlation-id");
        return found != null && Arrays.equals(found.value(), correlation);
    }

    /** In production whoever owns the topics does this once; the ledger never does it. */
    static void createTopic(String kafka, String name) throws Exception {
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", kafka))) {
            admin.createTopics(List.of(new NewTopic(name, 1, (short) -1))).all().get();
        } catch (ExecutionException error) {
            if (!(error.getCause() instanceof TopicExistsException)) {
                throw error;
            }
        }
    }

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }
}
