"""A cut without training: in rounds, and by what the network is where nobody says how."""
