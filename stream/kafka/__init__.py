"""Everything that speaks Kafka's protocol; the only importer of aiokafka beside Faust itself."""
