"""What survives a power cut: orders, play log, outbox, content library."""
