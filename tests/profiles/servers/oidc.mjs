// An OAuth 2.0 server for the tests: npm's `oidc-provider` with rotating refresh tokens.
//
//   node oidc.mjs PORT STORE LIBRARY
//
// STORE is a JSON file with all that the server has issued. It is written before each response, so
// that a killed server has forgotten nothing. LIBRARY is the path of the installed library.
//
// Beside the library's own calls, `POST /first` returns a refresh token as a log-in in a browser
// would. Standard output gets `ready`, and `refresh TOKEN STATUS` for each refresh request.

import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';

const [port, store, library] = process.argv.slice(2);
const { Provider } = await import(pathToFileURL(library));

const read = () => {
  try {
    return JSON.parse(readFileSync(store, 'utf8'));
  } catch {
    return {}; // the first start
  }
};
const entries = read();
const save = () => {
  writeFileSync(`${store}.new`, JSON.stringify(entries));
  renameSync(`${store}.new`, store);
};
const now = () => Math.floor(Date.now() / 1000);

class Adapter {
  constructor(model) {
    this.model = model;
  }

  key(id) {
    return `${this.model}:${id}`;
  }

  async upsert(id, payload, expiresIn) {
    entries[this.key(id)] = { payload, until: expiresIn ? now() + expiresIn : null };
    save();
  }

  async find(id) {
    const entry = entries[this.key(id)];
    return entry && (entry.until === null || entry.until > now()) ? entry.payload : undefined;
  }

  async findByUid(uid) {
    return Object.values(entries).find(({ payload }) => payload.uid === uid)?.payload;
  }

  async findByUserCode() {
    return undefined;
  }

  async consume(id) {
    entries[this.key(id)].payload.consumed = now();
    save();
  }

  async destroy(id) {
    delete entries[this.key(id)];
    save();
  }

  async revokeByGrantId(grantId) {
    for (const [key, { payload }] of Object.entries(entries)) {
      if (payload.grantId === grantId) delete entries[key];
    }
    save();
  }
}

const scope = 'openid offline_access';
const accountId = 'ann';
const provider = new Provider(`http://127.0.0.1:${port}`, {
  adapter: Adapter,
  clients: [
    {
      client_id: 'keeper',
      client_secret: 'keeper-secret',
      grant_types: ['authorization_code', 'refresh_token', 'client_credentials'],
      redirect_uris: ['https://app.example.net/callback'],
    },
  ],
  cookies: { keys: ['a key of the tests'] },
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    introspection: { enabled: true },
    revocation: { enabled: true },
  },
  findAccount: async () => ({ accountId, claims: async () => ({ sub: accountId }) }),
  rotateRefreshToken: true,
  ttl: { AccessToken: 8, ClientCredentials: 8, Grant: 3600, IdToken: 3600, RefreshToken: 300 },
});

async function first() {
  const client = await provider.Client.find('keeper');
  const grant = new provider.Grant({ accountId, clientId: client.clientId });
  grant.addOIDCScope(scope);
  const grantId = await grant.save();
  const refresh = new provider.RefreshToken({
    accountId,
    client,
    grantId,
    gty: 'authorization_code',
    rotations: 0,
    scope,
    iiat: now(),
  });
  return refresh.save();
}

provider.use(async (ctx, next) => {
  if (ctx.method === 'POST' && ctx.path === '/first') {
    ctx.body = await first();
    return;
  }
  await next();
  const refresh = ctx.oidc?.params?.refresh_token;
  if (refresh) console.log(`refresh ${refresh} ${ctx.status}`);
});

provider.listen(Number(port), '127.0.0.1', () => console.log('ready'));
