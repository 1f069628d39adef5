"""Pictures and labels: where they come from, and how they become a network's input."""
