// panva's oidc-provider, in memory: it rotates refresh tokens, ends a family when one is used again, and revokes. It says yes to everybody,
// or with ASK asks the person. Who asks for a token for RESOURCE gets a JWT with the roles of ROLES; KEYS are its own, or it makes some up.
import { Provider } from 'oidc-provider';

const redirect = process.env.REDIRECT;
const grants = ['authorization_code', 'refresh_token', 'urn:ietf:params:oauth:grant-type:device_code'];
const resource = process.env.RESOURCE;
const client = (id, secret) => ({
  client_id: id, client_secret: secret, redirect_uris: redirect.split(' '), grant_types: grants, response_types: ['code'],
  token_endpoint_auth_method: 'client_secret_basic',
});

const provider = new Provider(process.env.ISSUER, {
  clients: [client('oo', process.env.SECRET)],
  pkce: { required: () => true },
  scopes: ['openid', 'offline_access', 'notes.read'],
  features: {
    devInteractions: { enabled: false }, deviceFlow: { enabled: true, charset: 'digits', mask: '***-***-***' }, revocation: { enabled: true }, introspection: { enabled: true },
    resourceIndicators: {
      enabled: Boolean(resource), useGrantedResource: () => true,
      getResourceServerInfo: () => ({ scope: 'read connect act', audience: resource, accessTokenFormat: 'jwt', jwt: { sign: { alg: 'RS256' } } }),
    },
  },
  ...(process.env.KEYS ? { jwks: JSON.parse(process.env.KEYS) } : {}),
  extraTokenClaims: () => ({ roles: (process.env.ROLES || '').split(' ') }),
  conformIdTokenClaims: false,
  rotateRefreshToken: process.env.ROTATE !== 'no',
  issueRefreshToken: async (ctx, client) => client.grantTypeAllowed('refresh_token'),
  ttl: { AccessToken: 3600, RefreshToken: 86400, AuthorizationCode: 60, Grant: 86400, Session: 86400, Interaction: 600 },
  findAccount: async (ctx, id) => ({ accountId: id, claims: async () => ({ sub: id, roles: (process.env.ROLES || '').split(' ') }) }),
  claims: { openid: ['sub', 'roles'] },
  cookies: { keys: ['test'] },
  interactions: { url: (ctx, interaction) => `/interaction/${interaction.uid}` },
});

const body = async (req) => {
  let text = '';
  for await (const chunk of req) text += chunk;
  return new URLSearchParams(text);
};

const page = (ctx, form) => {
  ctx.type = 'html';
  ctx.body = `<!doctype html><html lang="en"><title>Sign in</title><main><form method="post">${form}</form></main></html>`;
};

const asked = async (ctx) => {
  const { prompt, session, params } = await provider.interactionDetails(ctx.req, ctx.res);
  if (prompt.name === 'login') {
    if (ctx.method === 'GET') return page(ctx, '<label>Account <input name="account"></label><button>Sign in</button>');
    const accountId = (await body(ctx.req)).get('account');
    return provider.interactionFinished(ctx.req, ctx.res, { login: { accountId } });
  }
  if (ctx.method === 'GET') {
    const boxes = params.scope.split(' ').map((scope) => `<label><input type="checkbox" name="scope" value="${scope}" checked>${scope}</label>`);
    return page(ctx, `${boxes.join('')}<button name="decision" value="allow">Allow</button><button name="decision" value="deny">Deny</button>`);
  }
  const said = await body(ctx.req);
  if (said.get('decision') === 'deny') return provider.interactionFinished(ctx.req, ctx.res, { error: 'access_denied' });
  const grant = new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
  const scopes = said.getAll('scope');
  grant.addOIDCScope(scopes.join(' '));
  grant.rejectOIDCScope(params.scope.split(' ').filter((scope) => !scopes.includes(scope)).join(' '));
  return provider.interactionFinished(ctx.req, ctx.res, { consent: { grantId: await grant.save() } }, { mergeWithLastSubmission: true });
};

provider.use(async (ctx, next) => {
  if (!ctx.path.startsWith('/interaction/')) return next();
  if (process.env.ASK === 'yes') return asked(ctx);
  const { prompt, grantId, session, params } = await provider.interactionDetails(ctx.req, ctx.res);
  if (prompt.name === 'login') return provider.interactionFinished(ctx.req, ctx.res, { login: { accountId: 'ada' } });
  const grant = grantId ? await provider.Grant.find(grantId) : new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
  grant.addOIDCScope(params.scope);
  if (params.resource) grant.addResourceScope(params.resource, params.scope);
  const consent = { grantId: await grant.save() };
  return provider.interactionFinished(ctx.req, ctx.res, { consent }, { mergeWithLastSubmission: true });
});

const server = provider.listen(Number(new URL(process.env.ISSUER).port), '127.0.0.1', () => console.log(`READY ${server.address().port}`));
