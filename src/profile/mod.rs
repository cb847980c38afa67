//! API profiles: descriptions of session APIs, as data.
//!
//! A profile says which requests query, renew, open and revoke a session, and what the responses
//! mean. It has no expressions and no loops. Pure: `settings` reads profiles, `api` sends their
//! requests and interprets the responses.

mod model;
mod place;
mod template;
mod value;

pub use self::model::{
    Call, Condition, Death, DeathMeaning, Deferral, DeferralMeaning, Profile, Request, RequestBody,
    Rule, Scalar, Unit,
};
pub use self::place::{Place, PlaceError, any_at, is_null_at};
pub use self::template::{JsonTemplate, Placeholder, Template, TemplateError};
pub use self::value::{number, text_of};
