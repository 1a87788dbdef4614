"""Models as people name them, captured, with inputs and a reference answer."""
