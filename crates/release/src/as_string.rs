//! Names that are text where they are written down.

/// Lets serde read a name from its text, by `FromStr`, and write it as its text, by `Display`.
macro_rules! as_string {
    ($type:ty, $error:ty) => {
        impl TryFrom<String> for $type {
            type Error = $error;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(it: $type) -> String {
                it.to_string()
            }
        }
    };
}

pub(crate) use as_string;
