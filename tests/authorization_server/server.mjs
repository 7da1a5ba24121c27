// panva's oidc-provider, in memory: it rotates refresh tokens, ends a family when one is used again, and revokes. It says yes to everybody.
import { Provider } from 'oidc-provider';

const redirect = process.env.REDIRECT;
const grants = ['authorization_code', 'refresh_token'];
const client = (id, secret) => ({
  client_id: id, client_secret: secret, redirect_uris: [redirect], grant_types: grants, response_types: ['code'],
  token_endpoint_auth_method: 'client_secret_basic',
});

const provider = new Provider(process.env.ISSUER, {
  clients: [client('oo', process.env.SECRET)],
  pkce: { required: () => true },
  scopes: ['openid', 'offline_access', 'notes.read'],
  features: { devInteractions: { enabled: false }, revocation: { enabled: true }, introspection: { enabled: true } },
  rotateRefreshToken: process.env.ROTATE !== 'no',
  issueRefreshToken: async (ctx, client) => client.grantTypeAllowed('refresh_token'),
  ttl: { AccessToken: 3600, RefreshToken: 86400, AuthorizationCode: 60, Grant: 86400, Session: 86400, Interaction: 600 },
  findAccount: async (ctx, id) => ({ accountId: id, claims: async () => ({ sub: id }) }),
  cookies: { keys: ['test'] },
  interactions: { url: (ctx, interaction) => `/interaction/${interaction.uid}` },
});

provider.use(async (ctx, next) => {
  if (!ctx.path.startsWith('/interaction/')) return next();
  const { prompt, grantId, session, params } = await provider.interactionDetails(ctx.req, ctx.res);
  if (prompt.name === 'login') return provider.interactionFinished(ctx.req, ctx.res, { login: { accountId: 'ada' } });
  const grant = grantId ? await provider.Grant.find(grantId) : new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
  grant.addOIDCScope(params.scope);
  const consent = { grantId: await grant.save() };
  return provider.interactionFinished(ctx.req, ctx.res, { consent }, { mergeWithLastSubmission: true });
});

const server = provider.listen(Number(new URL(process.env.ISSUER).port), '127.0.0.1', () => console.log(`READY ${server.address().port}`));
