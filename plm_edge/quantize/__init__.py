"""Recipe → a type per tensor → the engine's own quantizer → every type read back."""
