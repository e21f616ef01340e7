package memory

import "unsafe"

// Account counts memory before it is allocated. A nil Account counts nothing and refuses nothing.
type Account interface {
	// Take counts bytes that will be allocated next. It may wait; after an error they must not be allocated.
	Take(bytes int) error
	// Give gives back bytes that are used no more.
	Give(bytes int)
}

// Take counts bytes in an account, which may be nil.
func Take(a Account, bytes int) error {
	if a == nil {
		return nil
	}
	return a.Take(bytes)
}

// Grow returns s with room for more elements behind its own. What that allocates is taken from the account first.
func Grow[T any](a Account, s []T, more int) ([]T, error) {
	if cap(s)-len(s) >= more {
		return s, nil
	}
	return GrowTo(a, s, max(len(s)+more, 2*cap(s), 8))
}

// GrowTo moves s to an array of so many elements, taken from the account first, and gives the old array back.
func GrowTo[T any](a Account, s []T, elements int) ([]T, error) {
	var one T
	size := int(unsafe.Sizeof(one))
	if err := Take(a, elements*size); err != nil {
		return s, err
	}
	grown := make([]T, len(s), elements)
	copy(grown, s)
	if a != nil {
		a.Give(cap(s) * size)
	}
	return grown, nil
}
