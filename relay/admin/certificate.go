package admin

import (
	"fmt"
	"time"

	"realtorbot-relay/relay/delivery/client"
	"realtorbot-relay/relay/rfc3339"
)

// certificate is the one that the intake shows to its clients.
type certificate struct {
	Expires  rfc3339.Time `json:"expires_at"`
	DaysLeft int          `json:"days_left"` // negative when it has ended
}

// certificateReasons is what there is to say of the TLS certificate of a section of the configuration.
func certificateReasons(section string, ends time.Time, trouble string, now time.Time) (reasons []string) {
	switch left := ends.Sub(now); {
	case left <= 0:
		reasons = append(reasons, fmt.Sprintf("the certificate of %s.tls_cert has ended on %s: renew it, clients refuse it", section, ends.UTC().Format(time.DateOnly)))
	case left < client.CertificateWarning:
		reasons = append(reasons, fmt.Sprintf("the certificate of %s.tls_cert ends in %d days, on %s: renew it", section, int(left.Hours()/24), ends.UTC().Format(time.DateOnly)))
	}
	if trouble != "" {
		reasons = append(reasons, "the changed TLS files can't be used, the previous certificate stays in use: "+trouble)
	}
	return reasons
}
