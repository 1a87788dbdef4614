"""`edgeflow bench`: one device, edgeflow on several, and what people would use instead, side by side."""
