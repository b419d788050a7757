package llm

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"runtime"
	"sync"
	"time"

	"golang.org/x/crypto/bcrypt"
)

const (
	// longestPassword is what bcrypt reads, in bytes; more would be a different password
	// with the same hash.
	longestPassword = 72
	// rememberPassword is how long a password that was good needs no hashing again.
	rememberPassword = 5 * time.Minute
	maxRemembered    = 1024
)

// secret is of this process alone: what is derived from it means nothing elsewhere.
var secret = func() (key [32]byte) {
	_, _ = rand.Read(key[:]) // never fails
	return key
}()

func derive(parts ...string) (hash keyHash) {
	mac := hmac.New(sha256.New, secret[:])
	for _, part := range parts {
		length := [8]byte{}
		for i, n := 0, len(part); i < len(length); i, n = i+1, n>>8 {
			length[i] = byte(n)
		}
		mac.Write(length[:])
		mac.Write([]byte(part))
	}
	copy(hash[:], mac.Sum(nil))
	return hash
}

// passwordKey stands for a consumer's password among the keys of a directory, so that a
// changed or removed password ends requests as a revoked key does. Nobody can show it
// as a key: it is no hash of anything.
func passwordKey(c *consumer) keyHash { return derive("credential", c.Name, string(c.PasswordBcrypt)) }

// hashing bounds how many passwords are hashed at the same time: the rest of the
// gateway needs the processors too.
var hashing = make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))

// decoy is what a password is compared with when there is none, so that the time of an
// answer does not tell which names have one.
var decoy = sync.OnceValue(func() []byte {
	hash, err := bcrypt.GenerateFromPassword([]byte("nobody's password"), maxPasswordCost)
	if err != nil { // a constant: cannot happen
		panic(err)
	}
	return hash
})

// byPassword compares a password with the consumer's hash; nil is a wrong one. The
// error is the context's, when the client has gone before its turn came.
func (d *directory) byPassword(ctx context.Context, shown presented, now time.Time) (*credential, error) {
	if !d.passwords || len(shown.key) > longestPassword {
		return nil, nil
	}
	c := d.consumers[shown.user]
	hash := decoy()
	if c != nil && len(c.PasswordBcrypt) > 0 {
		hash = c.PasswordBcrypt
	}
	select {
	case hashing <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	err := bcrypt.CompareHashAndPassword(hash, []byte(shown.key))
	<-hashing
	if err != nil || c == nil || len(c.PasswordBcrypt) == 0 {
		return nil, nil
	}
	cred := d.find(passwordKey(c), now)
	if cred != nil {
		goodPasswords.add(derive("password", c.Name, string(c.PasswordBcrypt), shown.key), now)
	}
	return cred, nil
}

// remembered is byPassword for what was found good a short time ago.
func (d *directory) remembered(shown presented, now time.Time) *credential {
	c := d.consumers[shown.user]
	if c == nil || len(c.PasswordBcrypt) == 0 {
		return nil
	}
	if !goodPasswords.has(derive("password", c.Name, string(c.PasswordBcrypt), shown.key), now) {
		return nil
	}
	return d.find(passwordKey(c), now)
}

// memory holds derived hashes for a time.
type memory struct {
	mu    sync.Mutex
	until map[keyHash]time.Time
}

var goodPasswords = memory{until: map[keyHash]time.Time{}}

func (m *memory) add(hash keyHash, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.until) >= maxRemembered {
		for old, until := range m.until {
			if !until.After(now) {
				delete(m.until, old)
			}
		}
	}
	if len(m.until) < maxRemembered {
		m.until[hash] = now.Add(rememberPassword)
	}
}

func (m *memory) has(hash keyHash, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.until[hash].After(now)
}
