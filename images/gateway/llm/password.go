package llm

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"maps"
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

// decoys are what a password is compared with when there is none, one for each cost, so
// that the time of an answer does not tell which names have one.
var decoys [maxPasswordCost + 1]func() []byte

func init() {
	for cost := range decoys {
		decoys[cost] = sync.OnceValue(func() []byte {
			hash, err := bcrypt.GenerateFromPassword([]byte("nobody's password"), cost)
			if err != nil { // a constant: cannot happen
				panic(err)
			}
			return hash
		})
	}
}

// hasPassword compares a password with a consumer's hash, for as long for a name that
// has none. Every consumer's hash should be of the same cost: it shows in the time.
func (d *directory) hasPassword(shown presented) bool {
	c, hash := d.consumers[shown.user], d.decoy
	known := c != nil && len(c.PasswordBcrypt) > 0
	if known {
		hash = c.PasswordBcrypt
	}
	return bcrypt.CompareHashAndPassword(hash, []byte(shown.key)) == nil && known
}

// mayBePassword reports whether it is worth the work of hashing.
func (d *directory) mayBePassword(shown presented) bool {
	return shown.scheme == schemeBasic && d.decoy != nil && len(shown.key) <= longestPassword
}

// remember spares the next requests with this password the work.
func (d *directory) remember(shown presented, now time.Time) *credential {
	c := d.consumers[shown.user]
	cred := d.find(passwordKey(c), now)
	if cred != nil {
		goodPasswords.add(derive("password", c.Name, string(c.PasswordBcrypt), shown.key), now)
	}
	return cred
}

// remembered returns the credential of a password that was found good a short time ago.
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
		maps.DeleteFunc(m.until, func(_ keyHash, until time.Time) bool { return !until.After(now) })
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
