//! API profiles: descriptions of session APIs, as data.
//!
//! A profile says which requests query, renew, open and revoke a session, and what the responses
//! mean. It has no expressions and no loops. Pure: `settings` reads profiles, `api` sends their
//! requests and interprets the responses.

mod builtin;
pub(crate) mod keys;
mod model;
mod parse;
mod place;
mod raw;
mod template;
mod value;

pub use self::builtin::{BUILTIN, Builtin, builtin};
pub use self::model::{
    Call, Condition, Death, DeathMeaning, Deferral, DeferralMeaning, Profile, Request, RequestBody,
    Rule, Scalar, Unit,
};
pub use self::parse::parse;
pub use self::place::{Place, PlaceError, any_at, is_null_at};
pub use self::raw::{ProfileError, ProfileErrorKind};
pub use self::template::{JsonTemplate, Placeholder, Template, TemplateError};
pub use self::value::{number, text_of};
