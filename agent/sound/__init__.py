"""Sound prepared for voice: decoders, live relays, speech. Children do the work; the agent starts them."""
