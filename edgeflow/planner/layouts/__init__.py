"""From "this stretch, this way, on these devices" to stages."""
