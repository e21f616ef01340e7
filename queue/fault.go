package queue

// fault is asked before and after each write, by the name of its place. A test makes the write fail there, or the process
// end; in life it is nil. An error from before keeps the write from being made, one from after tells of a write that was
// made all the same.
type fault func(place string, made bool) error

func (f fault) before(place string) error {
	if f == nil {
		return nil
	}
	return f(place, false)
}

func (f fault) after(place string, err error) error {
	if f == nil || err != nil {
		return err
	}
	return f(place, true)
}

// The places of faults.
const (
	placeFormat    = "format file"
	placeFormatDir = "name of the format file"
	placeFill      = "zeros of a new slot"
	placeSlotDir   = "name of a new slot"
	placeHeader    = "header of a slot"
	placeEntry     = "entry"
	placeSync      = "sync of an entry"
	placeCommit    = "commit of the store"

	placeSetAside    = "setting a damaged store aside"
	placeMended      = "name of the mended store"
	placeMarkFile    = "new mark"
	placeMark        = "mark"
	placeSpare       = "spare log of the store"
	placeBallast     = "taking the ballast"
	placeDropBallast = "giving up the ballast"
)
