"""`edgeflow bench`: compare one device, edgeflow on several devices, and other systems."""
