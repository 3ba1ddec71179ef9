package bus

// janitorKey is the key of the lease bucket by which one process at a time sweeps. It cannot be an incarnation's: no name begins like that.
const janitorKey = "=janitor"
