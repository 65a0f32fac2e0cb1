"""Networks of the literature and random ones, as small as their geometry allows; rebuilt here from their descriptions."""
