"""The node: takes films by C-STORE, asks the gateway, sends results back; loses nothing."""
