package bus

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	pb "tasktracer/proto/tasktracer/v1"
)

// revokedMargin is how long a revocation outlives its token: clocks differ.
const revokedMargin = time.Hour

// revokedUntil is until when the revocation of a token that expires must be known; zero: for good. A run that was accepted may come back when its token
// has expired, as long as the log has something of it: so it is not the token's end alone that counts, but also the age at which the last chunk
// that can have been stored before the revocation, at revoked, is gone.
func (b *Bus) revokedUntil(expires, revoked time.Time) time.Time {
	if expires.IsZero() || b.maxAge == 0 {
		return time.Time{}
	}
	until := expires.Add(revokedMargin)
	if aged := revoked.Add(b.maxAge + b.maxAge/4); aged.After(until) {
		return aged
	}
	return until
}

// Revoke stores that a token id, of a token that expires then (zero: never), is revoked. It tries until ctx ends.
func (b *Bus) Revoke(ctx context.Context, jti string, expires time.Time) error {
	r := &pb.Revocation{Jti: jti}
	if !expires.IsZero() {
		r.ExpiresAt = expires.Unix()
	}
	data, err := proto.Marshal(r)
	if err != nil {
		return fmt.Errorf("revoke: %w", err)
	}
	subject := prefixKV + revokeBucket + "." + encodeToken(jti)
	err = retry(ctx, func() error {
		_, err := b.publishAny(ctx, subject, nil, data)
		return err
	}, func(error) bool { return ctx.Err() == nil && b.ctx.Err() == nil })
	if err != nil {
		return fmt.Errorf("revoke: %w", err)
	}
	return nil
}

// WatchRevoked calls fn with all token ids that are revoked, then (synced) once, then with each new one, until ctx ends. until is when the revocation may be
// forgotten, zero: never. That is later than the token's end: a run that was accepted may go on behind it.
func (b *Bus) WatchRevoked(ctx context.Context, fn func(jti string, until time.Time), synced func()) error {
	return b.watchBucket(ctx, revokeBucket, "", func(v watched) {
		if v.header.Get(hdrKVOp) != "" {
			return // expired, and swept
		}
		var r pb.Revocation
		if err := proto.Unmarshal(v.data, &r); err != nil {
			b.log.Warn("a revocation that cannot be read", "err", err)
			return
		}
		var expires time.Time
		if r.ExpiresAt != 0 {
			expires = time.Unix(r.ExpiresAt, 0)
		}
		until := b.revokedUntil(expires, v.at)
		if !until.IsZero() && until.Before(time.Now()) {
			return // only not yet swept
		}
		fn(r.Jti, until)
	}, synced)
}
