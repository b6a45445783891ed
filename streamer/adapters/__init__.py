"""One file per outside thing: Kafka, Redis, torch, Prometheus, the wire formats."""
