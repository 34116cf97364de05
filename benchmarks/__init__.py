"""Speed against peers: both sides compute the same thing, in turn, in one run."""
