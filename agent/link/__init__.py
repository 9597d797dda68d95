"""The MQTT 5 link to the source system: topics, client, outbox."""
