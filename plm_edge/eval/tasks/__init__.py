"""Tasks: what a model is worth to its users, and what each answer costs the device."""
