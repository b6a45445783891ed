"""Everything around the stream: the command line, the local Kafka and Redis, the demo and the benchmarks."""
