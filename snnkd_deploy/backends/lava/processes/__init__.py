"""Own Lava processes. While compiling, Lava executes every file of this folder: keep side effects out of it."""
