package config

// Masked is an endpoint's configuration as it may be shown: the keys and spellings of the file, with stars for secrets, for
// what may be one in the URL and for what a proxy asks for.
type Masked struct {
	URL            string            `json:"url"`
	Events         []string          `json:"events"`
	Secret         string            `json:"secret"`
	PreviousSecret string            `json:"previous_secret"`
	Signatures     []string          `json:"signatures"`
	Headers        map[string]string `json:"headers"`
	Enabled        bool              `json:"enabled"`
	AllowPrivate   bool              `json:"allow_private"`
	Format         string            `json:"format"`
	ClientCert     string            `json:"client_cert"` // the files' names
	ClientKey      string            `json:"client_key"`
	ServerName     string            `json:"server_name"`
	Timeout        string            `json:"timeout"`
	Retry          []string          `json:"retry"`
	Concurrency    int               `json:"concurrency"`
	Rate           float64           `json:"rate"`
	RateBytes      string            `json:"rate_bytes"`
	OnFailed       string            `json:"on_failed"`
	Success        string            `json:"success"`
	MaxAge         string            `json:"max_age"`
	Lag            string            `json:"lag"`
	DisableAfter   string            `json:"disable_after"`
	Jitter         string            `json:"jitter"`
	Numbers        string            `json:"numbers"`
	Proxy          string            `json:"proxy"`
	ProxyLookup    string            `json:"proxy_lookup"`
	CAFile         string            `json:"ca_file"`
}

// Masked is what may be shown of the endpoint.
func (e *Endpoint) Masked() Masked {
	m := Masked{
		URL: e.URL.String(), Events: e.Events, Secret: e.Secret.String(), PreviousSecret: e.PreviousSecret.String(),
		Signatures: e.Signatures, Headers: map[string]string{}, Enabled: e.Enabled, AllowPrivate: e.AllowPrivate,
		Format: e.Format, ClientCert: e.ClientCert.String(), ClientKey: e.ClientKey.String(), ServerName: e.ServerName,
		Timeout: formatDuration(e.Delivery.Timeout), Retry: []string{}, Concurrency: e.Delivery.Concurrency, Rate: e.Delivery.Rate,
		RateBytes: formatSize(e.Delivery.RateBytes), OnFailed: e.Delivery.OnFailed,
		Success: e.Delivery.Success.String(), MaxAge: formatDuration(e.Delivery.MaxAge),
		Lag: formatDuration(e.Delivery.Lag), DisableAfter: formatDuration(e.Delivery.DisableAfter), Jitter: formatDuration(e.Delivery.Jitter),
		Numbers: e.Delivery.Numbers, Proxy: e.Delivery.Proxy.String(),
		ProxyLookup: e.Delivery.ProxyLookup, CAFile: e.Delivery.CAFile.String(),
	}
	for name, value := range e.Headers {
		m.Headers[name] = value.String()
	}
	for _, wait := range e.Delivery.Retry {
		m.Retry = append(m.Retry, formatDuration(wait))
	}
	return m
}
