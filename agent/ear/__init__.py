"""The ear: what receivers, microphones and sensors say about what really goes out. A process of its own."""
