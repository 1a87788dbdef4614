"""The demo: capture, plan, deploy and measure models on workers, and compare the results."""
