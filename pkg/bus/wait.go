package bus

import "context"

// WaitDurable returns when the records up to src are durable, or when src was never accepted. Unlike Sync it has nothing stored earlier than it would be:
// acknowledgements that wait for each record must not break a flood into small chunks. Errors: as Sync's.
func (a *Appender) WaitDurable(ctx context.Context, src uint64) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for a.durable < min(src, a.accepted) {
		if a.err != nil {
			return a.err
		}
		if err := a.wait(ctx); err != nil {
			return err
		}
	}
	return nil
}
