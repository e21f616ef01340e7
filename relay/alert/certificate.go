package alert

import (
	"fmt"
	"time"

	"realtorbot-relay/relay/config"
	"realtorbot-relay/relay/delivery"
	"realtorbot-relay/relay/delivery/client"
)

// Certificate is one that an operator has to renew before it expires.
type Certificate struct {
	What     string // whose it is, for people
	Endpoint string // empty for those of the relay's listeners
	Expires  time.Time
}

const (
	// certificatesEvery is how often certificates are checked, certificateAgain how often an alert is raised for one.
	certificatesEvery = time.Minute
	certificateAgain  = 24 * time.Hour
)

// checkCertificates raises an alert for each certificate that expires soon, and for one that did and was renewed.
func (d *Alerter) checkCertificates(now time.Time) {
	for _, c := range append(d.Own(), ofEndpoints(d.Dispatcher.Statuses())...) {
		key := c.Endpoint + "\n" + c.What
		told, known := d.ending[key]
		switch soon := c.Expires.Sub(now) < client.CertificateWarning; {
		case soon && now.Sub(told) >= certificateAgain:
			d.ending[key] = now
			d.raise(config.AlertCertificateExpiring, now, ofCertificate(c, now))
		case known && !soon:
			delete(d.ending, key)
			d.raise(config.AlertCertificateRenewed, now, ofRenewed(c))
		}
	}
}

// ofEndpoints returns the certificates of the configured endpoints: those of their receivers, and the relay's own for them.
func ofEndpoints(statuses []delivery.Status) (list []Certificate) {
	for _, s := range statuses {
		if s.State == delivery.StateOrphaned {
			continue
		}
		if !s.CertificateExpires.IsZero() {
			list = append(list, Certificate{Endpoint: s.Name, Expires: s.CertificateExpires.Time,
				What: fmt.Sprintf("the certificate of endpoint %q", s.Name)})
		}
		if !s.ClientCertificateExpires.IsZero() {
			list = append(list, Certificate{Endpoint: s.Name, Expires: s.ClientCertificateExpires.Time,
				What: fmt.Sprintf("client_cert of endpoint %q", s.Name)})
		}
	}
	return list
}
