"""Only looked for: nothing of it is called."""
