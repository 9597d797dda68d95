"""Who may speak: signatures, authorities, replay memory, trusted time. Decides; never reads or writes."""
