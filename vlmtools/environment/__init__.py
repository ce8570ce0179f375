"""What this machine has for vlmtools, and what is broken: read without importing anything heavy."""
