//! `/openapi.json`, made from the routes themselves, and `/docs`, a page of it that needs nothing from the internet.

use axum::Router;
use utoipa::OpenApi as _;
use utoipa::openapi::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;
use utoipa_swagger_ui::SwaggerUi;

use super::Shared;
use super::failure::Error;

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "PairDB",
        description = "A multi-tenant key-value store. Every answer has the header X-Request-ID; one that is given is kept. \
                       Every failure is an object of the form Error."
    ),
    components(schemas(Error)),
    tags(
        (name = "key-value", description = "Keys and their values"),
        (name = "tenants", description = "Tenants and how their keys are kept"),
        (name = "admin", description = "Storage nodes and migrations"),
        (name = "health", description = "Probes"),
    )
)]
struct Document;

/// A router that has described no route yet.
pub(super) fn router() -> OpenApiRouter<Shared> {
    let mut document = Document::openapi();
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer);
    let bearer = bearer.description(Some("Needed where authentication is on; names the tenant."));
    let components = document.components.get_or_insert_default();
    components.add_security_scheme("token", SecurityScheme::Http(bearer.build()));
    let none: [&str; 0] = [];
    document.security = Some(vec![
        SecurityRequirement::default(),
        SecurityRequirement::new("token", none),
    ]);
    OpenApiRouter::with_openapi(document)
}

/// The document and its page.
pub(super) fn pages(document: OpenApi) -> Router<Shared> {
    SwaggerUi::new("/docs")
        .url("/openapi.json", document)
        .into()
}
