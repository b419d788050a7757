"""The kinds of attack: each module offers builders that take chance and a site and give one move. Pure."""
