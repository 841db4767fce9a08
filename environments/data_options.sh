# Sourced by the papers' scripts. `data_options ARGUMENT...` puts what belongs to the data (--data.* and values) into `images`.
data_options() {
  images=()
  while [ $# -gt 0 ]; do
    case $1 in
      --data.*)
        images+=("$1")
        shift
        while [ $# -gt 0 ] && [[ $1 != --* ]]; do images+=("$1"); shift; done ;;
      *) shift ;;
    esac
  done
}
