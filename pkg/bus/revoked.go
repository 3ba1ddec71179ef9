package bus

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	pb "tasktracer/proto/tasktracer/v1"
)

// Revoke stores that a token id is revoked until expires; zero: for good. It tries until ctx ends.
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

// WatchRevoked calls fn with all token ids that are revoked and not yet expired, then (synced) once, then with each new one, until ctx ends.
// A zero expires means for good.
func (b *Bus) WatchRevoked(ctx context.Context, fn func(jti string, expires time.Time), synced func()) error {
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
			if expires = time.Unix(r.ExpiresAt, 0); expires.Before(time.Now()) {
				return
			}
		}
		fn(r.Jti, expires)
	}, synced)
}
