"""The reference source system: signs, publishes, serves content, watches the fleet."""
