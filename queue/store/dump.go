package store

// Dump reads all records of some kinds as of one moment, a step at a time, and compares them with their sums. Writes do not
// wait for it; what they replace is kept until End. One goroutine uses it.
type Dump struct {
	store   *Store
	version uint64
	want    state
	kinds   []Kind // that are left; the first is being read
	from    Key
	found   Sum // so far, of that kind
	wrong   []Mismatch
}

// Dump begins a dump as of now. End must follow.
func (s *Store) Dump(kinds ...Kind) *Dump {
	d := &Dump{store: s, kinds: kinds, from: First(kinds[0])}
	d.version = s.pinVersion(func() { d.want = s.state })
	return d
}

// Applied is the number of the entry as of which the records are.
func (d *Dump) Applied() uint64 { return d.want.applied }

// Step calls fn with the next records, stepRecords at most, and reports whether there are more. The value is valid during
// the call. The error of the last step wraps codec.ErrDamaged when the records do not agree with the sums; the store is then
// suspect.
func (d *Dump) Step(fn func(key Key, value []byte) error) (more bool, err error) {
	d.from, more, err = d.store.step(d.version, d.from, func(key Key, value []byte) error {
		d.found.add(hashOf(key, value))
		return fn(key, value)
	})
	if err != nil || more {
		return more, err
	}
	k := d.kinds[0]
	if want := d.want.sums.Of(k); want != d.found {
		d.wrong = append(d.wrong, Mismatch{Kind: k, Want: want, Found: d.found})
	}
	d.kinds, d.found = d.kinds[1:], Sum{}
	if len(d.kinds) > 0 {
		d.from = First(d.kinds[0])
		return true, nil
	}
	return false, d.store.noteSuspect(mismatched(d.wrong))
}

// End frees what the dump kept.
func (d *Dump) End() { d.store.unpinVersion(d.version) }
