"""The commands that send films through the zoo and measure the answers."""
