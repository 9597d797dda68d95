"""The emergency core, a process of its own: sound card, mixer, relays, buttons, pinned messages."""
