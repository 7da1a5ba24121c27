"""Seeds that once found something, and what. They are run again for ever, beside the numbers that come up."""

#: seed → what it found. What a seed leads to changes with the code; what it is kept for is the kind of life it is.
REGRESSIONS = {
    "small-33": "who was asked for again while waiting lost the place in the queue, and never ran while more waited than there were hands",
    "small-34": "after a lost cursor, one unreadable item in a listing kept everything that was gone from being noticed, for good",
    "small-12": "two daemons worked on one erasure, and the slower one ended its round with an error",
    "full-3": "an erasure took deliveries of somebody else, whose account id holds the one of the person erased",
    "small-385": "a push that was older than its connection came late, and brought back what had been deleted before the first listing",
    "small-545": "a daemon died between the end of a run and the first step of writing it, and whoever waited for the run waited for ever",
    "small-163": "an erasure left the lease on a delivery that a full disk had kept from being given back, and nobody ended it",
    "full-1": "two daemons worked on one erasure, and the slower one erased the tombstone of the quicker",
}
